#define MULTISTATE_UNIT plain_answer
#include "unit.inc"
