# Read by CMake after project(horovod ...), before Horovod's own settings. What it needs comes from the
# environment that bootstrap/recipe.py makes: BOOTSTRAP_CXX_STANDARD, BOOTSTRAP_RPATH, BOOTSTRAP_MPICXX, BOOTSTRAP_GPU.

# Horovod 0.28.1 and its gloo ask for C++11, 14 or 17; torch's headers need more. Each of these now means the one that torch needs.
foreach(asked 11 14 17)
    set(CMAKE_CXX${asked}_STANDARD_COMPILE_OPTION "-std=c++$ENV{BOOTSTRAP_CXX_STANDARD}")
    set(CMAKE_CXX${asked}_EXTENSION_COMPILE_OPTION "-std=gnu++$ENV{BOOTSTRAP_CXX_STANDARD}")
endforeach()

# A wheel from the cache may be installed into another environment: libraries are found relative to it, never by the
# path of the environment that it was compiled in.
set(CMAKE_BUILD_WITH_INSTALL_RPATH TRUE)
set(CMAKE_INSTALL_RPATH_USE_LINK_PATH FALSE)
set(CMAKE_INSTALL_RPATH "$ENV{BOOTSTRAP_RPATH}")

# The MPI that was chosen, not another one that happens to lie on PATH.
if(DEFINED ENV{BOOTSTRAP_MPICXX})
    set(MPI_CXX_COMPILER "$ENV{BOOTSTRAP_MPICXX}" CACHE FILEPATH "" FORCE)
endif()

# Without GPU=1 nothing of CUDA is used, whatever toolkit the machine has: a partial one stops the configuration.
if(NOT "$ENV{BOOTSTRAP_GPU}" STREQUAL "1")
    set(CMAKE_CUDA_COMPILER "CMAKE_CUDA_COMPILER-NOTFOUND")
    set(CMAKE_DISABLE_FIND_PACKAGE_CUDAToolkit TRUE)
    list(PREPEND CMAKE_MODULE_PATH "${CMAKE_CURRENT_LIST_DIR}/modules")
endif()

# Without the debug symbols of RelWithDebInfo the wheel has 1 MB instead of 20.
string(REPLACE "-g" "" CMAKE_CXX_FLAGS_RELWITHDEBINFO "${CMAKE_CXX_FLAGS_RELWITHDEBINFO}")
