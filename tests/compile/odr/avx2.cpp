#define MULTISTATE_UNIT avx2_answer
#include "unit.inc"
