// Depthwise causal convolution. A task owns a chunk of positions and a block of channels; inside it, tiles of a few rows
// are walked channel by channel, so that a row is read from memory once, as one of a few sequential streams, and a
// vector's taps stay in registers over the tile.
#include "../../backend/cpu/native/kernel.h"
#include "sequence.h"
#include "forward.h"
#include "backward.h"
#include "step.h"
