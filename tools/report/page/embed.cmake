# The files of the page as C++: included, this defines multistate_embed_page; as a script (cmake -P) it writes the source.
#   cmake -DFOLDER=<folder of the files> -DOUT=<file.cpp> -P embed.cmake

set(multistate_page_files page.html page.css page.js limits.html)

if(CMAKE_SCRIPT_MODE_FILE)
  set(source "// Made by tools/report/page/embed.cmake.\n#include <tools/report/page_files.hpp>\n\nnamespace multistate::tools {\n\n")
  foreach(file IN LISTS multistate_page_files)
    file(READ ${FOLDER}/${file} text)
    string(FIND "${text}" ")embedded\"" end)
    if(NOT end EQUAL -1)
      message(FATAL_ERROR "${file} holds what ends its C++ literal")
    endif()
    string(REGEX REPLACE "[.]" "_" name ${file})
    string(APPEND source "std::string_view ${name}() noexcept { return R\"embedded(${text})embedded\"; }\n")
  endforeach()
  file(WRITE ${OUT} "${source}\n}  // namespace multistate::tools\n")
  return()
endif()

# multistate_embed_page(<target>): adds the source to a target of this folder's scope.
set(multistate_page_folder ${CMAKE_CURRENT_LIST_DIR})
function(multistate_embed_page target)
  list(TRANSFORM multistate_page_files PREPEND ${multistate_page_folder}/ OUTPUT_VARIABLE files)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/page_files.cpp)
  add_custom_command(OUTPUT ${out}
    COMMAND ${CMAKE_COMMAND} -DFOLDER=${multistate_page_folder} -DOUT=${out} -P ${multistate_page_folder}/embed.cmake
    DEPENDS ${files} ${multistate_page_folder}/embed.cmake
    COMMENT "Embedding the page of the report" VERBATIM)
  target_sources(${target} PRIVATE ${out})
endfunction()
