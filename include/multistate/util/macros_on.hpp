// No include guard: brings back what macros_off.hpp put aside.
#pragma pop_macro("max")
#pragma pop_macro("min")
