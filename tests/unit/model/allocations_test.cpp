// Nothing but the counting operator new of this program, apart from what it counts.

#include <support/replace_new.hpp>
