// Fast Fourier transforms, and convolution by them. Sequences lie side by side in the lanes of vectors.
#include "../../backend/cpu/native/kernel.h"
#include "transform.h"
#include "conv.h"
#include "any-length.h"
#include "real.h"
#include "complex.h"
