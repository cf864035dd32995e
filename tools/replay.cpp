#include <multistate/tools/programs.hpp>

int main(int argc, char** argv) { return multistate::replay_main<>(argc, argv); }
