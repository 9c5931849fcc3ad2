// Selective scan kernels. The mathematics and the memory plan are in README.md.
#include "../../backend/cpu/native/kernel.h"
#include "scan-math.h"
#include "scan-block.h"
#include "scan-forward.h"
#include "scan-backward-steps.h"
#include "scan-backward.h"
#include "scan-step.h"
