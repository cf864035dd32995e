#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

namespace bench {

/// The same products by another library.
class peer {
 public:
  virtual ~peer() = default;
  /// y [columns][n] = x [columns][n] with the weights [n][n] at `weights`, in the format it was made for.
  virtual void multiply(const void* weights) = 0;
};

/// Null where there is none, or where it does not know the format.
std::unique_ptr<peer> make_peer(std::string_view format, std::size_t n, std::size_t columns, float* x, float* y,
                                int threads);

}  // namespace bench
