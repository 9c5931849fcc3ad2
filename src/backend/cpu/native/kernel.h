// What the source of every kernel includes.
#pragma once
#include "executor.h"
#include "kernels.gen.h"
#include "loops.h"
#include "math.h"
#include "simd.h"
