#pragma once

#if __cplusplus < 202002L
#error "multistate needs C++20: compile with -std=c++20 (CMake: target_compile_features(... cxx_std_20))"
#endif
