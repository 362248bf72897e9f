# Named by CMAKE_TOOLCHAIN_FILE while Horovod is compiled. Horovod's source stays as released: CMake reads
# this file first, and the line below makes it read horovod.cmake right after project(horovod).
set(CMAKE_PROJECT_horovod_INCLUDE "${CMAKE_CURRENT_LIST_DIR}/horovod.cmake")
