/**
 * A C++ header that the compiler reads before hnswlib: large blocks, which the graph lies in, are asked for in pages of
 * 2 MiB where Linux has them. A search reads thousands of places of the graph in no order, and with pages of 4 KiB most
 * of those are no longer among the addresses that the processor keeps at hand. Blocks are freed as ever.
 */
export const HUGE_PAGES_HEADER = `#include <cstdint>
#include <cstdlib>
#include <sys/mman.h>

static inline void* preferHugePages(void* block, std::size_t bytes) {
  const std::uintptr_t page = std::uintptr_t(1) << 21;
  const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(block);
  const std::uintptr_t begin = (address + page - 1) & ~(page - 1);
  const std::uintptr_t end = (address + bytes) & ~(page - 1);
  // A wish: where it can't be granted, pages are small.
  if (block && begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
  return block;
}

#define malloc(bytes) preferHugePages(std::malloc(bytes), bytes)
#define realloc(block, bytes) preferHugePages(std::realloc(block, bytes), bytes)
`;
