# Headers, one export set per part (so that core is found where nothing else is installed), pkg-config files.
get_property(fetched GLOBAL PROPERTY multistate_fetched)
if(fetched)
  message(STATUS "multistate: no install rules, since dependencies are built in the same tree")
  return()
endif()

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/multistate)

foreach(part IN ITEMS core multistate dispatch model tokenizer tools eigen native)
  if(TARGET multistate_${part})
    if(part STREQUAL native OR part STREQUAL dispatch)
      install(TARGETS multistate_${part} EXPORT multistate-${part} COMPONENT development)
    else()
      install(TARGETS multistate_${part} EXPORT multistate-${part}
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development
        FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development)
    endif()
    install(EXPORT multistate-${part} NAMESPACE multistate:: DESTINATION ${package_dir} COMPONENT development)
  endif()
endforeach()

if(TARGET multistate_multistate) # for those who compile it in a build of their own, too
  install(FILES include/multistate/attention/dispatched.cpp DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/multistate/attention COMPONENT development)
endif()

configure_package_config_file(cmake/multistate-config.cmake.in multistate-config.cmake INSTALL_DESTINATION ${package_dir}
  NO_SET_AND_CHECK_MACRO)
set(any_architecture ARCH_INDEPENDENT)
if(TARGET multistate_tools) # a compiled library
  set(any_architecture "")
endif()
write_basic_package_version_file(multistate-config-version.cmake COMPATIBILITY SameMinorVersion ${any_architecture})
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/multistate-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/multistate-config-version.cmake
  DESTINATION ${package_dir} COMPONENT development)

if(TARGET multistate_tokenizer)
  install(DIRECTORY cmake/find DESTINATION ${package_dir} COMPONENT development)
endif()

set(pkgconfig_dir ${CMAKE_INSTALL_DATADIR}/pkgconfig)
file(RELATIVE_PATH include_from_pc /${pkgconfig_dir} /${CMAKE_INSTALL_INCLUDEDIR})
foreach(name IN ITEMS multistate-core multistate)
  if(name STREQUAL multistate-core OR TARGET multistate_multistate)
    configure_file(cmake/${name}.pc.in ${name}.pc @ONLY)
    install(FILES ${CMAKE_CURRENT_BINARY_DIR}/${name}.pc DESTINATION ${pkgconfig_dir} COMPONENT development)
  endif()
endforeach()
