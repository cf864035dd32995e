// Dispatched attention takes one format; BAD gives it two.
#include <multistate/attention/dispatched.hpp>

using namespace multistate;

#if defined(BAD)
using values = f32;
#else
using values = f16;
#endif

int main() { dispatched_attention<>().operator()<needs::last_row, f16, values>({}); }
