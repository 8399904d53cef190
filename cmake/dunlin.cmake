# One layer = one folder of src/ = one static library = one line of src/layers.txt.

# Flags of our own code. Third-party headers are SYSTEM, so these warnings are about us alone.
add_library(dunlin_flags INTERFACE)
target_compile_options(dunlin_flags INTERFACE -Wall -Wextra -Wshadow -Werror=unused-result
                                              -Werror=return-type -fno-math-errno)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  # The oldest CPU we run on is x86-64-v2 with AES (2010); everything newer is chosen at run time.
  target_compile_options(dunlin_flags INTERFACE -march=x86-64-v2 -maes -mpclmul)
  if(DUNLIN_SIMD_TARGETS STREQUAL "AVX2")
    target_compile_definitions(dunlin_flags INTERFACE HWY_DISABLED_TARGETS=HWY_AVX3 DUNLIN_ONE_TARGET)
  endif()
endif()
target_include_directories(dunlin_flags INTERFACE ${CMAKE_SOURCE_DIR}/src)
if(DUNLIN_CHECKED)
  target_compile_definitions(dunlin_flags INTERFACE DUNLIN_CHECKED)
endif()
if(DUNLIN_SANITIZE)
  target_compile_options(dunlin_flags INTERFACE -fsanitize=${DUNLIN_SANITIZE} -fno-omit-frame-pointer
                                                -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${DUNLIN_SANITIZE})
endif()
if(DUNLIN_FUZZ)
  target_compile_options(dunlin_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# What nearly every file includes, parsed once per target. Never a header of our own: a change of it
# would rebuild everything. That each file includes what it uses is still checked for the headers.
set(DUNLIN_PRECOMPILED <algorithm> <atomic> <chrono> <functional> <map> <memory> <mutex> <span> <string>
                       <string_view> <thread> <unordered_map> <vector> <fmt/format.h>)

# Tests are built to be read by a debugger and quickly, not to be fast.
if(DUNLIN_SANITIZE)
  set(DUNLIN_TEST_OPTIMISATION -O0)
else()
  set(DUNLIN_TEST_OPTIMISATION -O1)
endif()

# dunlin_layer(<name> USES <layers…> LIBS <libraries…> SRCS <files…>)
# Files ending in _test.cc become the layer's one test executable, those in _bench.cc its benchmark.
function(dunlin_layer name)
  cmake_parse_arguments(L "" "" "USES;LIBS;SRCS" ${ARGN})
  if(NOT L_SRCS)
    file(GLOB_RECURSE L_SRCS CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  endif()
  set(tests ${L_SRCS})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  set(benches ${L_SRCS})
  list(FILTER benches INCLUDE REGEX "_bench\\.cc$")
  list(FILTER L_SRCS EXCLUDE REGEX "_(test|bench|main)\\.cc$")
  add_library(dunlin_${name} STATIC ${L_SRCS})
  target_link_libraries(dunlin_${name} PUBLIC dunlin_flags fmt::fmt ${L_LIBS})
  target_precompile_headers(dunlin_${name} PRIVATE ${DUNLIN_PRECOMPILED})
  foreach(used IN LISTS L_USES)
    target_link_libraries(dunlin_${name} PUBLIC dunlin_${used})
  endforeach()
  if(DUNLIN_TESTS AND tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE dunlin_${name} GTest::gtest_main GTest::gmock)
    target_compile_options(${name}_test PRIVATE ${DUNLIN_TEST_OPTIMISATION})
    target_precompile_headers(${name}_test PRIVATE ${DUNLIN_PRECOMPILED} <gmock/gmock.h> <gtest/gtest.h>)
    gtest_discover_tests(${name}_test TEST_PREFIX "${name}/" DISCOVERY_TIMEOUT 60)
  endif()
  if(DUNLIN_TESTS AND benches AND NOT DUNLIN_SANITIZE)  # nobody times those
    add_executable(${name}_bench ${benches})
    target_link_libraries(${name}_bench PRIVATE dunlin_${name} benchmark::benchmark_main)
  endif()
endfunction()
