# policies.hpp must stay cheap: none of these headers may come along with it.
file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/include_cost.cpp "#include <multistate/policies.hpp>\n")
execute_process(COMMAND ${compiler} -std=c++20 -I${include} -M include_cost.cpp WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}
  RESULT_VARIABLE status OUTPUT_VARIABLE files ERROR_VARIABLE messages)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${messages}")
endif()
string(REGEX REPLACE "[ \\\n]+" ";" files "${files}")
set(found "")
foreach(file IN LISTS files)
  if(file MATCHES "/(string|vector|memory|algorithm|functional|map|unordered_map|iostream|ostream|istream|sstream|locale|regex|ranges|thread|mutex)$"
     OR file MATCHES "/(hwy|Eigen|nlohmann|CLI)/")
    string(APPEND found "\n  ${file}")
  endif()
endforeach()
if(found)
  message(FATAL_ERROR "policies.hpp pulls in:${found}")
endif()
