# Adds the CUDA kernels to jr_onnx_ops, as JR_CUDA says, and sets `cuda_version` and `cuda_architectures`. The CUDA
# runtime is linked statically: the library then loads where there is no driver.

set(cuda_version "")
set(cuda_architectures "")
if(NOT JR_CUDA AND NOT JR_CUDA STREQUAL "")
  return()
endif()

macro(jr_without_cuda message)
  if(JR_CUDA)
    message(FATAL_ERROR "JR_CUDA=${JR_CUDA}, but ${message}")
  endif()
  message(STATUS "The CUDA kernels are not built: ${message}")
  return()
endmacro()

# The machine's own toolkit first, since it fits the driver; then the one that JR_CUDA=ON makes pip fetch.
if(DEFINED ENV{CUDACXX} AND NOT CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_COMPILER "$ENV{CUDACXX}")
else()
  find_program(CMAKE_CUDA_COMPILER nvcc HINTS ENV CUDA_PATH ENV CUDA_HOME PATHS /usr/local/cuda PATH_SUFFIXES bin)
endif()
if(JR_CUDA AND NOT CMAKE_CUDA_COMPILER)
  # Only Python knows where, because pip keeps such packages apart from the build backend.
  find_package(Python COMPONENTS Interpreter REQUIRED)
  execute_process(COMMAND "${Python_EXECUTABLE}" -c "import nvidia; print(*nvidia.__path__, sep=';')"
                  OUTPUT_VARIABLE nvidia OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  find_program(CMAKE_CUDA_COMPILER nvcc PATHS ${nvidia} PATH_SUFFIXES cu13/bin)
endif()
if(NOT CMAKE_CUDA_COMPILER)
  jr_without_cuda("no nvcc was found; put it on PATH, or set CUDACXX or CUDA_PATH")
endif()

# The likely failure is a C++ compiler newer than nvcc accepts. The real kernel shows it in seconds.
execute_process(
  COMMAND "${CMAKE_CUDA_COMPILER}" -std=c++17 "-ccbin=${CMAKE_CXX_COMPILER}" -ptx -o
          "${CMAKE_CURRENT_BINARY_DIR}/probe.ptx" "${CMAKE_CURRENT_SOURCE_DIR}/src/cuda_kernels.cu"
  RESULT_VARIABLE failed ERROR_VARIABLE complaint OUTPUT_VARIABLE complaint)
if(failed)
  jr_without_cuda("${CMAKE_CUDA_COMPILER} cannot compile the kernels with ${CMAKE_CXX_COMPILER}:\n${complaint}")
endif()

if(NOT CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
  set(every_architecture ON)
endif()
# The toolkit from a package index has its static runtime in lib/, where nvcc does not look.
get_filename_component(cuda_lib "${CMAKE_CUDA_COMPILER}/../../lib" ABSOLUTE)
if(EXISTS "${cuda_lib}/libcudart_static.a")
  set(CMAKE_CUDA_FLAGS_INIT "-L${cuda_lib}")
endif()
set(CMAKE_CUDA_HOST_COMPILER "${CMAKE_CXX_COMPILER}")
enable_language(CUDA)

set(cuda_version "${CMAKE_CUDA_COMPILER_VERSION}")
set(cuda_architectures ${CMAKE_CUDA_ARCHITECTURES})
if(every_architecture)
  # Code for each generation, and PTX of the oldest for those to come.
  set(cuda_architectures 75 80-real 86-real 89-real 90-real)
  if(cuda_version VERSION_LESS 13)
    list(PREPEND cuda_architectures 60-real 70-real)  # as the builds of onnxruntime-gpu for CUDA 12
  endif()
  if(cuda_version VERSION_GREATER_EQUAL 12.8)
    list(APPEND cuda_architectures 100-real 120-real)
  endif()
endif()

target_compile_definitions(jr_core PRIVATE JR_CUDA)
target_sources(jr_onnx_ops PRIVATE src/cuda_kernels.cu)
set_target_properties(jr_onnx_ops PROPERTIES CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON CUDA_RUNTIME_LIBRARY Static
                                             CUDA_ARCHITECTURES "${cuda_architectures}")
