# Installs the programs, moves them, and runs `compare` from another folder without saying where its model and text are.
file(REMOVE_RECURSE ${work})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${build} --component programs --prefix ${work}/installed
  OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
file(RENAME ${work}/installed ${work}/moved)
file(MAKE_DIRECTORY ${work}/elsewhere)
execute_process(COMMAND ${work}/moved/bin/compare --policies tova:8 --tokens 64 --window 64 --json -
  WORKING_DIRECTORY ${work}/elsewhere OUTPUT_VARIABLE report COMMAND_ERROR_IS_FATAL ANY)
string(JSON model GET "${report}" model path)
string(JSON text GET "${report}" texts 0 path)
foreach(path IN ITEMS ${model} ${text}) # the source tree, its second choice, has them too
  string(FIND "${path}" "${work}/moved/" at)
  if(NOT at EQUAL 0)
    message(FATAL_ERROR "${path} is not what was installed")
  endif()
endforeach()
