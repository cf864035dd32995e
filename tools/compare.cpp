#include <multistate/tools/programs.hpp>

int main(int argc, char** argv) { return multistate::compare_main<>(argc, argv); }
