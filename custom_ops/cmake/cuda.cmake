# Adds the CUDA kernels to jr_onnx_ops where JR_CUDA asks for them and nvcc can build them, and sets `cuda_version`
# and `cuda_architectures`. The CUDA runtime is linked statically: the library then loads where there is no driver.

# ON makes `message` an error; AUTO goes on without CUDA.
macro(jr_without_cuda message)
  if(JR_CUDA STREQUAL "ON")
    message(FATAL_ERROR "JR_CUDA=ON, but ${message}")
  endif()
  message(WARNING "The CUDA kernels are not built: ${message}")
  return()
endmacro()

set(cuda_architectures "")
string(TOUPPER "${JR_CUDA}" JR_CUDA)
if(NOT JR_CUDA MATCHES "^(ON|OFF|AUTO)$")
  message(FATAL_ERROR "JR_CUDA is \"${JR_CUDA}\"; it must be ON, OFF or AUTO")
endif()
if(JR_CUDA STREQUAL "OFF")
  return()
endif()

# CMAKE_CUDA_COMPILER comes from -D (the Python build passes an nvcc that came from a package index so).
if(NOT CMAKE_CUDA_COMPILER AND DEFINED ENV{CUDACXX})
  set(CMAKE_CUDA_COMPILER "$ENV{CUDACXX}")
elseif(NOT CMAKE_CUDA_COMPILER)
  find_program(JR_NVCC nvcc HINTS ENV CUDA_PATH ENV CUDA_HOME /usr/local/cuda PATH_SUFFIXES bin)
  if(NOT JR_NVCC)
    jr_without_cuda("no nvcc was found; put it on PATH, or set CUDACXX or CUDA_PATH")
  endif()
  set(CMAKE_CUDA_COMPILER "${JR_NVCC}")
endif()

# nvcc's toolkit root is above bin/; with packages from an index, the static runtime is in its lib/, not lib64/.
get_filename_component(toolkit "${CMAKE_CUDA_COMPILER}" DIRECTORY)
get_filename_component(toolkit "${toolkit}" DIRECTORY)
if(EXISTS "${toolkit}/lib/libcudart_static.a")
  set(CMAKE_CUDA_FLAGS_INIT "-L${toolkit}/lib")
endif()

# The likely failure is a C++ compiler newer than nvcc accepts. The real kernel shows it in seconds.
execute_process(
  COMMAND "${CMAKE_CUDA_COMPILER}" -std=c++17 "-ccbin=${CMAKE_CXX_COMPILER}" -ptx -o
          "${CMAKE_CURRENT_BINARY_DIR}/probe.ptx" "${CMAKE_CURRENT_SOURCE_DIR}/src/cuda_kernels.cu"
  RESULT_VARIABLE failed ERROR_VARIABLE complaint OUTPUT_VARIABLE complaint)
if(failed)
  jr_without_cuda("${CMAKE_CUDA_COMPILER} cannot compile the kernels with ${CMAKE_CXX_COMPILER}:\n${complaint}")
endif()

execute_process(COMMAND "${CMAKE_CUDA_COMPILER}" --version OUTPUT_VARIABLE version_text)
string(REGEX MATCH "release ([0-9.]+)" matched "${version_text}")
set(cuda_version "${CMAKE_MATCH_1}")
set(cuda_architectures ${JR_CUDA_ARCHITECTURES})
if(NOT cuda_architectures)
  # Code for each generation, and PTX of the oldest for those to come.
  set(cuda_architectures 75 80-real 86-real 89-real 90-real)
  if(cuda_version VERSION_GREATER_EQUAL 12.8)
    list(APPEND cuda_architectures 100-real 120-real)
  endif()
endif()

set(CMAKE_CUDA_ARCHITECTURES ${cuda_architectures})
set(CMAKE_CUDA_HOST_COMPILER "${CMAKE_CXX_COMPILER}")
enable_language(CUDA)
target_compile_definitions(jr_core PRIVATE JR_CUDA)
target_sources(jr_onnx_ops PRIVATE src/cuda_kernels.cu)
set_target_properties(jr_onnx_ops PROPERTIES CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON CUDA_RUNTIME_LIBRARY Static
                                             CUDA_ARCHITECTURES "${cuda_architectures}")
