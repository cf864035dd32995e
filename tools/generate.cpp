#include <multistate/tools/programs.hpp>

int main(int argc, char** argv) { return multistate::generate_main<>(argc, argv); }
