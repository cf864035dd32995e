#include <tools/programs/compare_main.hpp>

int main(int argc, char** argv) { return multistate::compare_main<>(argc, argv); }
