#include "serve/shared_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

namespace dunlin::serve {
namespace {

// A shared memory object of a client.
class Object {
 public:
  explicit Object(size_t bytes) : bytes_(bytes) {
    fd_ = ::shm_open(key().c_str(), O_CREAT | O_RDWR, 0600);
    EXPECT_EQ(::ftruncate(fd_, off_t(bytes)), 0);
    data_ = static_cast<char*>(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0));
  }
  ~Object() {
    ::munmap(data_, bytes_);
    ::close(fd_);
    ::shm_unlink(key().c_str());
  }
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  std::string key() const { return "/dunlin_test_" + std::to_string(::getpid()); }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }
  void Shrink(size_t bytes) const { EXPECT_EQ(::ftruncate(fd_, off_t(bytes)), 0); }

 private:
  size_t bytes_;
  int fd_ = -1;
  char* data_ = nullptr;
};

constexpr InputPlace kPlace{"7", "x", "m"};

std::string ErrorOf(const Status& s) { return s ? "" : s.error().message; }

TEST(SharedMemory, IsOffUnlessAllowed) {
  SharedMemory off({});
  const Object object(64);
  const Status s = off.Register("a", object.key(), 0, 64);
  EXPECT_EQ(ErrorOf(s),
            "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to "
            "enable.");
  EXPECT_EQ(s.error().code, Code::kUnavailable);
  EXPECT_FALSE(off.Pin({"a", 0, 8}));
}

TEST(SharedMemory, RegistersListsAndUnregisters) {
  SharedMemory memory({.allow = true});
  const Object object(10000);
  ASSERT_EQ(ErrorOf(memory.Register("b", object.key(), 16, 64)), "");
  ASSERT_EQ(ErrorOf(memory.Register("a", object.key().substr(1), 5000, 5000)), "")
      << "the slash may be left out, as shm_open allows";
  const Status again = memory.Register("b", object.key(), 0, 8);
  EXPECT_EQ(ErrorOf(again), "shared memory region 'b' already in manager");
  EXPECT_EQ(again.error().code, Code::kAlreadyExists);
  const auto all = memory.List("").value();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].name, "a");
  EXPECT_EQ(all[1].key, object.key());
  EXPECT_EQ(all[1].offset, 16u);
  EXPECT_EQ(all[1].byte_size, 64u);
  EXPECT_EQ(memory.List("b").value().size(), 1u);
  memory.Unregister("nothing");
  memory.Unregister("b");
  const auto gone = memory.List("b");
  EXPECT_EQ(gone.error().message, "Unable to find system shared memory region: 'b'");
  EXPECT_EQ(gone.error().code, Code::kNotFound);
  memory.Unregister("");
  EXPECT_TRUE(memory.List("").value().empty());
}

TEST(SharedMemory, RefusesKeysThatAreNoPlainName) {
  SharedMemory memory({.allow = true});
  for (const char* key : {"", "/", "..", "/..", "/../etc/passwd", "//a", "/a/b", "a/b"})
    EXPECT_EQ(memory.Register("r", key, 0, 8).error().code, Code::kInvalidArgument) << key;
  EXPECT_FALSE(memory.Register("r", std::string("/a\0b", 4), 0, 8));
  EXPECT_FALSE(memory.Register("r", std::string(5000, 'k'), 0, 8));
  EXPECT_EQ(ErrorOf(memory.Register("r", "triton_python_backend_shm_region_1", 0, 8)),
            "cannot register shared memory region 'r' with key "
            "'triton_python_backend_shm_region_1' as the key contains the reserved prefix "
            "'triton_python_backend_shm_region_'");
  EXPECT_EQ(ErrorOf(memory.Register("r", "/dunlin_no_such", 0, 8)),
            "Unable to open shared memory region: '/dunlin_no_such'");
  EXPECT_TRUE(memory.List("").value().empty());
}

TEST(SharedMemory, ComparesRangesWithTheObject) {
  SharedMemory memory({.allow = true, .max_regions = 2});
  const Object object(64);
  const auto refused = [&](uint64_t offset, uint64_t bytes) {
    return ErrorOf(memory.Register("r", object.key(), offset, bytes)) ==
           "failed to register shared memory region 'r': invalid args";
  };
  EXPECT_TRUE(refused(0, 65));
  EXPECT_TRUE(refused(1, 64));
  EXPECT_TRUE(refused(64, 1));
  EXPECT_TRUE(refused(65, 0));
  EXPECT_TRUE(refused(0, 0));
  EXPECT_TRUE(refused(UINT64_MAX, 2));
  EXPECT_TRUE(refused(8, UINT64_MAX));
  ASSERT_EQ(ErrorOf(memory.Register("r", object.key(), 8, 56)), "");
  ASSERT_EQ(ErrorOf(memory.Register("s", object.key(), 0, 64)), "");
  EXPECT_EQ(memory.Register("t", object.key(), 0, 64).error().code, Code::kResourceExhausted);
  EXPECT_EQ(memory.Pin({"none", 0, 8}).error().message,
            "Unable to find shared memory region: 'none'");
  EXPECT_EQ(memory.Pin({"r", uint64_t(-32), 8}).error().message,
            "Invalid offset for shared memory region: 'r'");
  EXPECT_EQ(memory.Pin({"r", 50, 7}).error().message,
            "Invalid offset + byte size for shared memory region: 'r'");
  EXPECT_EQ(memory.Pin({"r", 32, uint64_t(-16)}).error().message,
            "Integer overflow detected: byte_size (18446744073709551600) + offset (32) exceeds "
            "maximum value (18446744073709551615) for region 'r'");
  EXPECT_TRUE(memory.Pin({"r", 50, 6}));
}

TEST(SharedMemory, ReadsInPlaceWhatCannotLeadTheEngineAstray) {
  SharedMemory memory({.allow = true});
  const Object object(1 << 16);
  ASSERT_TRUE(memory.Register("r", object.key(), 0, 1 << 16));
  const SharedMemorySpan span = memory.Pin({"r", 0, 1 << 16}).value();
  const Tensor floats = ReadSharedMemory(kPlace, DType::kF32, {1 << 14}, span).value();
  const Tensor indices = ReadSharedMemory(kPlace, DType::kI64, {1 << 13}, span).value();
  const Tensor bools = ReadSharedMemory(kPlace, DType::kBool, {1 << 16}, span).value();
  const Tensor few =
      ReadSharedMemory(kPlace, DType::kF32, {4}, memory.Pin({"r", 0, 16}).value()).value();
  object.as<float>()[0] = 3;
  EXPECT_EQ(floats.as<float>()[0], 3);
  EXPECT_EQ(indices.as<int64_t>()[0], 0);
  EXPECT_FALSE(bools.as<bool>()[3]);
  EXPECT_EQ(few.as<float>()[0], 0);
  EXPECT_EQ(ReadSharedMemory(kPlace, DType::kF32, {16}, memory.Pin({"r", 0, 128}).value())
                .error()
                .message,
            "[request id: 7] input byte size mismatch for input 'x' for model 'm'. Expected 64, "
            "got 128");
  std::memcpy(object.as<char>(), "\2\0\0\0hi\1\0\0\0!", 11);
  const Tensor strings =
      ReadSharedMemory(kPlace, DType::kString, {2}, memory.Pin({"r", 0, 11}).value()).value();
  EXPECT_EQ(strings.as<std::string>()[1], "!");
}

TEST(SharedMemory, WritesResultsIntoTheRegion) {
  SharedMemory memory({.allow = true});
  const Object object(64);
  ASSERT_TRUE(memory.Register("r", object.key(), 0, 64));
  const SharedMemorySpan span = memory.Pin({"r", 8, 16}).value();
  EXPECT_EQ(WriteSharedMemory(span, "y", Tensor::Of<float>({3}, {1, 2, 3})).value(), 12u);
  EXPECT_EQ(object.as<float>()[2], 1);
  EXPECT_EQ(object.as<float>()[4], 3);
  const auto small = WriteSharedMemory(span, "y", Tensor::Of<float>({5}, {1, 2, 3, 4, 5}));
  EXPECT_EQ(small.error().message,
            "shared memory size specified with the request for output 'y' (16 bytes) should be at "
            "least 20 bytes to hold the results");
  EXPECT_EQ(small.error().code, Code::kInternal);
  EXPECT_EQ(WriteSharedMemory(span, "y", Tensor::Of<std::string>({1}, {"hi"})).value(), 6u);
  EXPECT_EQ(std::string_view(object.as<char>() + 8, 6), std::string_view("\2\0\0\0hi", 6));
}

TEST(SharedMemory, ARegionInUseGoesWithItsLastUse) {
  SharedMemory memory({.allow = true});
  const Object object(1 << 16);
  ASSERT_TRUE(memory.Register("r", object.key(), 0, 1 << 16));
  SharedMemorySpan first = memory.Pin({"r", 0, 1 << 16}).value();
  const Tensor view = ReadSharedMemory(kPlace, DType::kF32, {1 << 14}, first).value();
  first = {};
  memory.Unregister("");
  EXPECT_EQ(memory.List("").value().size(), 1u) << "still used by a tensor";
  {
    const auto second = memory.Pin({"r", 0, 64});
    EXPECT_TRUE(second) << "still usable";
  }
  EXPECT_EQ(memory.List("").value().size(), 1u);
  object.as<float>()[5] = 7;
  EXPECT_EQ(view.as<float>()[5], 7);
  const_cast<Tensor&>(view) = Tensor();
  EXPECT_TRUE(memory.List("").value().empty());
}

TEST(SharedMemory, ShrunkenObjectsReadAsZerosAndAreRefused) {
  SharedMemory memory({.allow = true});
  const Object object(1 << 16);
  ASSERT_TRUE(memory.Register("r", object.key(), 0, 1 << 16));
  object.as<float>()[16000] = 7;
  const SharedMemorySpan span = memory.Pin({"r", 0, 1 << 16}).value();
  const Tensor view = ReadSharedMemory(kPlace, DType::kF32, {1 << 14}, span).value();
  object.Shrink(4096);
  EXPECT_EQ(view.as<float>()[16000], 0) << "and no SIGBUS";
  EXPECT_TRUE(WriteSharedMemory(span, "y", view));
  EXPECT_NE(memory.Pin({"r", 0, 64}).error().message.find("has shrunk"), std::string::npos);
  object.Shrink(1 << 16);
  EXPECT_FALSE(memory.Pin({"r", 0, 64})) << "its memory is no longer the client's";
  memory.Unregister("r");
}

}  // namespace
}  // namespace dunlin::serve
