// The Node-API addon: memory, files mapped as memory, and engines. Addresses travel as JavaScript numbers.
#include <node_api.h>

#include <cstring>
#include <memory>

#include "bf16.h"
#include "engine.h"
#include "mapped-file.h"
#include "targets.h"

namespace {

using elapid::Engine;

// A failed Node-API call here means a broken caller or a dying environment: tell JavaScript and go back.
napi_value fail(napi_env env, const char* message) {
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  if (!pending) napi_throw_error(env, nullptr, message);
  return nullptr;
}

#define TRY(call) \
  do { \
    if ((call) != napi_ok) return fail(env, "elapid addon: bad call of " #call); \
  } while (0)

template <size_t N>
struct Arguments {
  napi_value values[N];
  size_t count = N;
  napi_status read(napi_env env, napi_callback_info info) {
    return napi_get_cb_info(env, info, &count, values, nullptr, nullptr);
  }
  napi_value operator[](size_t i) const { return values[i]; }
};

napi_status get_address(napi_env env, napi_value value, char** address) {
  double number = 0;
  const napi_status status = napi_get_value_double(env, value, &number);
  *address = reinterpret_cast<char*>(uintptr_t(number));
  return status;
}

napi_status get_bytes(napi_env env, napi_value array, char** data, size_t* bytes) {
  napi_typedarray_type type;
  size_t length = 0;
  void* memory = nullptr;
  const napi_status status = napi_get_typedarray_info(env, array, &type, &length, &memory, nullptr, nullptr);
  size_t item = 8;
  if (type == napi_int8_array || type == napi_uint8_array || type == napi_uint8_clamped_array) item = 1;
  if (type == napi_int16_array || type == napi_uint16_array) item = 2;
  if (type == napi_int32_array || type == napi_uint32_array || type == napi_float32_array) item = 4;
  *data = static_cast<char*>(memory);
  *bytes = length * item;
  return status;
}

// allocate(bytes) → address, or 0 when there is no memory
napi_value allocate(napi_env env, napi_callback_info info) {
  Arguments<1> arguments;
  TRY(arguments.read(env, info));
  double bytes = 0;
  TRY(napi_get_value_double(env, arguments[0], &bytes));
  void* memory = elapid::allocate_aligned(size_t(bytes));
  napi_value result;
  TRY(napi_create_double(env, double(reinterpret_cast<uintptr_t>(memory)), &result));
  return result;
}

// free(address)
napi_value release(napi_env env, napi_callback_info info) {
  Arguments<1> arguments;
  TRY(arguments.read(env, info));
  char* address = nullptr;
  TRY(get_address(env, arguments[0], &address));
  elapid::free_aligned(address);
  return nullptr;
}

// copyIn(address, typedArray)
napi_value copy_in(napi_env env, napi_callback_info info) {
  Arguments<2> arguments;
  TRY(arguments.read(env, info));
  char *address = nullptr, *data = nullptr;
  size_t bytes = 0;
  TRY(get_address(env, arguments[0], &address));
  TRY(get_bytes(env, arguments[1], &data, &bytes));
  if (bytes != 0) std::memcpy(address, data, bytes);
  return nullptr;
}

// copyOut(address, typedArray)
napi_value copy_out(napi_env env, napi_callback_info info) {
  Arguments<2> arguments;
  TRY(arguments.read(env, info));
  char *address = nullptr, *data = nullptr;
  size_t bytes = 0;
  TRY(get_address(env, arguments[0], &address));
  TRY(get_bytes(env, arguments[1], &data, &bytes));
  if (bytes != 0) std::memcpy(data, address, bytes);
  return nullptr;
}

// mapFile(descriptor, offset, bytes) → address of the byte at `offset`, or 0 when the system refuses
napi_value map_file(napi_env env, napi_callback_info info) {
  Arguments<3> arguments;
  TRY(arguments.read(env, info));
  int32_t descriptor = -1;
  double offset = 0, bytes = 0;
  TRY(napi_get_value_int32(env, arguments[0], &descriptor));
  TRY(napi_get_value_double(env, arguments[1], &offset));
  TRY(napi_get_value_double(env, arguments[2], &bytes));
  napi_value result;
  TRY(napi_create_double(env, double(elapid::map_file(descriptor, offset, bytes)), &result));
  return result;
}

// unmapFile(address): what mapFile gave
napi_value unmap_file(napi_env env, napi_callback_info info) {
  Arguments<1> arguments;
  TRY(arguments.read(env, info));
  char* address = nullptr;
  TRY(get_address(env, arguments[0], &address));
  elapid::unmap_file(reinterpret_cast<uintptr_t>(address));
  return nullptr;
}

// lostFiles() → of mappings that were read behind the end of a file that was cut, by address, the paths, as far as known;
// undefined where there are none
napi_value lost_files(napi_env env, napi_callback_info) {
  if (elapid::lost_mappings.load() == 0) return nullptr;
  napi_value lost;
  TRY(napi_create_object(env, &lost));
  const std::lock_guard lock(elapid::mappings_mutex);
  for (elapid::Mapping* m = elapid::mappings.load(); m != nullptr; m = m->next) {
    if (m->begin.load() == 0 || !m->lost.load()) continue;
    napi_value path;
    TRY(napi_create_string_utf8(env, m->path.c_str(), NAPI_AUTO_LENGTH, &path));
    TRY(napi_set_named_property(env, lost, std::to_string(m->address).c_str(), path));
  }
  return lost;
}

napi_value list_of(napi_env env, const std::vector<const char*>& names) {
  napi_value list;
  TRY(napi_create_array(env, &list));
  uint32_t i = 0;
  for (const char* name : names) {
    napi_value text;
    TRY(napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &text));
    TRY(napi_set_element(env, list, i++, text));
  }
  return list;
}

// targets() → names of the instruction sets that were compiled in and that this processor can run, best first
napi_value targets(napi_env env, napi_callback_info) { return list_of(env, elapid::available_targets()); }

// processorTargets() → names of those that this processor can run, compiled in or not, best first
napi_value processor_targets(napi_env env, napi_callback_info) { return list_of(env, elapid::processor_targets()); }

// maxThreads() → the most that `open` takes
napi_value max_threads(napi_env env, napi_callback_info) {
  napi_value result;
  TRY(napi_create_int32(env, elapid::kMaxThreads, &result));
  return result;
}

// bf16Unit() → name of the unit that multiplies bfloat16 beside the AVX-512 kernels, or ''
napi_value bf16_unit(napi_env env, napi_callback_info) {
  const elapid::Bf16Kernels* unit = elapid::bf16_kernels();
  napi_value name;
  TRY(napi_create_string_utf8(env, unit == nullptr ? "" : unit->name, NAPI_AUTO_LENGTH, &name));
  return name;
}

// signatures() → the kernels' signatures in table order
napi_value signatures(napi_env env, napi_callback_info) {
  const elapid::KernelTable& table = elapid::any_kernels();
  return list_of(env, std::vector<const char*>(table.signatures, table.signatures + table.count));
}

struct Handle {
  std::unique_ptr<Engine> engine;
  napi_threadsafe_function completed = nullptr;

  void close() {
    engine.reset();
    if (completed != nullptr) napi_release_threadsafe_function(completed, napi_tsfn_abort);
    completed = nullptr;
  }
};

void close_handle(void* handle) { static_cast<Handle*>(handle)->close(); }

napi_status get_handle(napi_env env, napi_value value, Handle** handle) {
  return napi_get_value_external(env, value, reinterpret_cast<void**>(handle));
}

// open(target, threads, onCompleted) → engine, on fewer threads where the system refuses some
napi_value open_engine(napi_env env, napi_callback_info info) {
  Arguments<3> arguments;
  TRY(arguments.read(env, info));
  char target[32] = {};
  size_t length = 0;
  int32_t threads = 1;
  TRY(napi_get_value_string_utf8(env, arguments[0], target, sizeof target, &length));
  TRY(napi_get_value_int32(env, arguments[1], &threads));
  const elapid::KernelTable* table = elapid::find_kernels(target);
  if (table == nullptr) return fail(env, "elapid addon: this processor cannot run the kernels asked for");
  if (threads < 1 || threads > elapid::kMaxThreads) return fail(env, "elapid addon: threads out of range");

  auto handle = std::make_unique<Handle>();
  napi_value name;
  TRY(napi_create_string_utf8(env, "elapid.completed", NAPI_AUTO_LENGTH, &name));
  TRY(napi_create_threadsafe_function(env, arguments[2], nullptr, name, 0, 1, nullptr, nullptr, nullptr, nullptr,
                                      &handle->completed));
  TRY(napi_unref_threadsafe_function(env, handle->completed));
  napi_threadsafe_function completed = handle->completed;
  try {
    handle->engine = std::make_unique<Engine>(
        *table, threads, [completed] { napi_call_threadsafe_function(completed, nullptr, napi_tsfn_nonblocking); });
  } catch (const std::exception& error) {
    handle->close();
    return fail(env, error.what());
  }
  TRY(napi_add_env_cleanup_hook(env, close_handle, handle.get()));
  napi_value external;
  TRY(napi_create_external(env, handle.get(), nullptr, nullptr, &external));
  handle.release();
  return external;
}

// submit(engine, words, count, notify)
napi_value submit(napi_env env, napi_callback_info info) {
  Arguments<4> arguments;
  TRY(arguments.read(env, info));
  Handle* handle = nullptr;
  char* words = nullptr;
  size_t bytes = 0;
  uint32_t count = 0;
  bool notify = false;
  TRY(get_handle(env, arguments[0], &handle));
  TRY(get_bytes(env, arguments[1], &words, &bytes));
  TRY(napi_get_value_uint32(env, arguments[2], &count));
  TRY(napi_get_value_bool(env, arguments[3], &notify));
  if (!handle->engine || size_t(count) * sizeof(double) > bytes) return fail(env, "elapid addon: bad submission");
  handle->engine->submit(reinterpret_cast<const double*>(words), count, notify);
  return nullptr;
}

// threads(engine) → how many were started
napi_value threads(napi_env env, napi_callback_info info) {
  Arguments<1> arguments;
  TRY(arguments.read(env, info));
  Handle* handle = nullptr;
  TRY(get_handle(env, arguments[0], &handle));
  napi_value result;
  TRY(napi_create_int32(env, handle->engine ? handle->engine->threads() : 0, &result));
  return result;
}

// completed(engine) → submissions finished so far
napi_value completed(napi_env env, napi_callback_info info) {
  Arguments<1> arguments;
  TRY(arguments.read(env, info));
  Handle* handle = nullptr;
  TRY(get_handle(env, arguments[0], &handle));
  napi_value result;
  TRY(napi_create_double(env, handle->engine ? double(handle->engine->completed()) : 0, &result));
  return result;
}

// kernelTimes(engine) → nanoseconds spent in each kernel, in table order
napi_value kernel_times(napi_env env, napi_callback_info info) {
  Arguments<1> arguments;
  TRY(arguments.read(env, info));
  Handle* handle = nullptr;
  TRY(get_handle(env, arguments[0], &handle));
  napi_value list;
  TRY(napi_create_array(env, &list));
  if (!handle->engine) return list;
  uint32_t i = 0;
  for (const uint64_t nanoseconds : handle->engine->kernel_nanoseconds()) {
    napi_value value;
    TRY(napi_create_double(env, double(nanoseconds), &value));
    TRY(napi_set_element(env, list, i++, value));
  }
  return list;
}

// keepAlive(engine, on): whether work under way keeps the process from ending
napi_value keep_alive(napi_env env, napi_callback_info info) {
  Arguments<2> arguments;
  TRY(arguments.read(env, info));
  Handle* handle = nullptr;
  bool on = false;
  TRY(get_handle(env, arguments[0], &handle));
  TRY(napi_get_value_bool(env, arguments[1], &on));
  if (handle->completed == nullptr) return nullptr;
  TRY(on ? napi_ref_threadsafe_function(env, handle->completed) : napi_unref_threadsafe_function(env, handle->completed));
  return nullptr;
}

// close(engine)
napi_value close_engine(napi_env env, napi_callback_info info) {
  Arguments<1> arguments;
  TRY(arguments.read(env, info));
  Handle* handle = nullptr;
  TRY(get_handle(env, arguments[0], &handle));
  TRY(napi_remove_env_cleanup_hook(env, close_handle, handle));
  handle->close();
  return nullptr;
}

}  // namespace

NAPI_MODULE_INIT() {
  const napi_property_descriptor functions[] = {
      {"allocate", nullptr, allocate, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"free", nullptr, release, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"copyIn", nullptr, copy_in, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"copyOut", nullptr, copy_out, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"mapFile", nullptr, map_file, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"unmapFile", nullptr, unmap_file, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"lostFiles", nullptr, lost_files, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"targets", nullptr, targets, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"processorTargets", nullptr, processor_targets, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"maxThreads", nullptr, max_threads, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"threads", nullptr, threads, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"bf16Unit", nullptr, bf16_unit, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"signatures", nullptr, signatures, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"open", nullptr, open_engine, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"submit", nullptr, submit, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"completed", nullptr, completed, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"kernelTimes", nullptr, kernel_times, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"keepAlive", nullptr, keep_alive, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"close", nullptr, close_engine, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
  };
  if (napi_define_properties(env, exports, sizeof functions / sizeof *functions, functions) != napi_ok) return nullptr;
  return exports;
}
