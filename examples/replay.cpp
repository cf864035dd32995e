#include <tools/programs/replay_main.hpp>

int main(int argc, char** argv) { return multistate::replay_main<>(argc, argv); }
