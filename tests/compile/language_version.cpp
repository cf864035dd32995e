// BAD is compiled as C++17: the first message names the version to take.
#include HEADER

int main() {}
