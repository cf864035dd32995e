// No include guard: until macros_on.hpp the macros min and max of others (windows.h) are put aside, so that neither our
// headers nor those of the standard library and of third parties trip over them.
#pragma push_macro("min")
#pragma push_macro("max")
#undef min
#undef max
