# Stands before Horovod's own FindPytorch in a CPU build, and corrects its answer: a torch that comes with CUDA
# makes it ask for a CUDA toolkit, which a CPU build does not need.
include("${PROJECT_SOURCE_DIR}/cmake/Modules/FindPytorch.cmake")
set(Pytorch_CUDA FALSE)
set(Pytorch_ROCM FALSE)
list(FILTER Pytorch_LIBRARIES EXCLUDE REGEX "(cudart|_cuda)[^/]*$")
