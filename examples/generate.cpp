#include <tools/programs/generate_main.hpp>

int main(int argc, char** argv) { return multistate::generate_main<>(argc, argv); }
