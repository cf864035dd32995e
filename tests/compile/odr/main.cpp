// Two units with different flags in one program. If they shared a kernel, the linker would have chosen one for both:
// then the targets were the same, and so was every bit.
#include <cmath>
#include <cstdio>
#include <cstring>

#include "answer.hpp"

int main() {
  constexpr int skipped = 77;
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return skipped;
  const answer plain = plain_answer(), avx2 = avx2_answer();
  float difference = 0;
  for (std::size_t i = 0; i < plain.out.size(); ++i)
    difference = std::fmax(difference, std::fabs(plain.out[i] - avx2.out[i]));
  std::printf("%.*s and %.*s differ by %g\n", int(plain.target.size()), plain.target.data(), int(avx2.target.size()),
              avx2.target.data(), double(difference));
  const bool own = plain.target != avx2.target && avx2.target == "AVX2" && difference > 0;
  return own && difference < 1e-5f ? 0 : 1;
}
