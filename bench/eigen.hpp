#pragma once

namespace bench {

/// One token's attention of one KV head as one would write it with Eigen, in float32: keys and values [n][d], q and
/// out [group][d].
class eigen_attention {
 public:
  eigen_attention(int n, int group, int d);
  ~eigen_attention();
  eigen_attention(const eigen_attention&) = delete;
  eigen_attention& operator=(const eigen_attention&) = delete;
  void operator()(const float* keys, const float* values, const float* q, float* out) const;

 private:
  struct workspace;
  int n_, group_, d_;
  workspace* workspace_;
};

}  // namespace bench
