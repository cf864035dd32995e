# Highway from the host's headers. Static dispatch needs one function of its library.
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/hwy_abort.cpp CONTENT [[
#include <cstdlib>
#include <hwy/base.h>
namespace hwy {
HWY_NORETURN void Abort(const char*, int, const char*, ...) { std::abort(); }
}
]])
add_library(multistate_hwy_aarch64 STATIC ${CMAKE_BINARY_DIR}/hwy_abort.cpp)
add_library(hwy::hwy ALIAS multistate_hwy_aarch64)
