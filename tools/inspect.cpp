#include <multistate/tools/programs.hpp>

int main(int argc, char** argv) { return multistate::inspect_main(argc, argv); }
