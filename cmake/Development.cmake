# What our own programs and tests are built with. Consumers see none of it.
option(MULTISTATE_WERROR "Warnings are errors in our own programs and tests" OFF)
option(MULTISTATE_NATIVE "Compile our own programs and tests for this CPU" OFF)
option(MULTISTATE_SCALAR "Compile our own programs and tests with Highway's scalar target only" OFF)

set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/bin)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release)
endif()

add_library(multistate_warnings INTERFACE)
target_compile_options(multistate_warnings INTERFACE -Wall -Wextra -Wconversion -Wshadow $<$<BOOL:${MULTISTATE_WERROR}>:-Werror>)
if(CMAKE_CXX_COMPILER_ID MATCHES Clang) # part of its -Wconversion, but not of g++'s
  target_compile_options(multistate_warnings INTERFACE -Wno-sign-conversion)
endif()
add_library(multistate_dev INTERFACE)
target_link_libraries(multistate_dev INTERFACE multistate_warnings)
if(MULTISTATE_NATIVE)
  target_link_libraries(multistate_dev INTERFACE multistate::native)
endif()
if(MULTISTATE_SCALAR)
  target_compile_definitions(multistate_dev INTERFACE HWY_COMPILE_ONLY_SCALAR)
endif()

find_package(OpenMP QUIET COMPONENTS CXX)
find_package(TBB QUIET) # an executor of the caller's own: example and test

# multistate_program(<name> SOURCES <file>... LINK <target>...): an executable of our own, in bin/.
function(multistate_program name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LINK")
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE multistate_dev ${arg_LINK})
endfunction()
