// The kernels as Node calls them.
#include <node_api.h>

#include <array>
#include <exception>
#include <string>

#include "session.h"

namespace {

using kernels::Session;

struct Failure {
  std::string reason;
};

void check(napi_env env, napi_status status) {
  if (status == napi_ok) return;
  const napi_extended_error_info* info;
  napi_get_last_error_info(env, &info);
  throw Failure{info->error_message ? info->error_message : "unknown"};
}

// A function of N arguments for JavaScript: what `call` returns, or throws as an Error.
template <size_t N, class F>
napi_value method(napi_env env, napi_callback_info info, F&& call) {
  try {
    std::array<napi_value, N> values;
    size_t count = N;
    check(env, napi_get_cb_info(env, info, &count, values.data(), nullptr, nullptr));
    if (count < N) throw Failure{"too few arguments"};
    return call(values);
  } catch (const Failure& failure) {
    napi_throw_error(env, nullptr, failure.reason.c_str());
  } catch (const std::exception& error) {
    napi_throw_error(env, nullptr, error.what());
  }
  return nullptr;
}

template <class T>
struct View {
  T* data;
  size_t length;
};

template <class T>
View<T> typed(napi_env env, napi_value value, napi_typedarray_type expected) {
  bool is = false;
  check(env, napi_is_typedarray(env, value, &is));
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  if (is) check(env, napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr));
  if (!is || type != expected) throw Failure{"expected another typed array"};
  return {static_cast<T*>(data), length};
}

napi_value named(napi_env env, napi_value object, const char* name) {
  napi_value value;
  check(env, napi_get_named_property(env, object, name, &value));
  return value;
}

int number(napi_env env, napi_value object, const char* name) {
  int32_t value;
  check(env, napi_get_value_int32(env, named(env, object, name), &value));
  return value;
}

std::string text(napi_env env, napi_value value) {
  char characters[64];
  size_t length;
  check(env, napi_get_value_string_utf8(env, value, characters, sizeof characters, &length));
  return std::string(characters, length);
}

// A model that is being loaded, or is loaded.
struct Handle {
  const kernels::Instructions& instructions;
  int threads;
  std::unique_ptr<kernels::Loader> loader;
  std::unique_ptr<Session> session;
};

Handle& handleOf(napi_env env, napi_value value) {
  void* handle;
  check(env, napi_get_value_external(env, value, &handle));
  return *static_cast<Handle*>(handle);
}

kernels::Loader& loaderOf(const Handle& handle) {
  if (!handle.loader) throw Failure{"it has its weights"};
  return *handle.loader;
}

const kernels::Instructions& called(const std::string& name) {
  for (const kernels::Instructions* each : kernels::instructionsHere())
    if (name == each->name) return *each;
  throw Failure{"this processor has no " + name};
}

// instructions(): string[], those that there are kernels for and that this processor has, the fastest first
napi_value instructions(napi_env env, napi_callback_info info) {
  return method<0>(env, info, [&](auto&) {
    napi_value names;
    check(env, napi_create_array(env, &names));
    uint32_t i = 0;
    for (const kernels::Instructions* each : kernels::instructionsHere()) {
      napi_value name;
      check(env, napi_create_string_utf8(env, each->name, NAPI_AUTO_LENGTH, &name));
      check(env, napi_set_element(env, names, i++, name));
    }
    return names;
  });
}

// open(shape): handle
napi_value open(napi_env env, napi_callback_info info) {
  return method<1>(env, info, [&](auto& values) -> napi_value {
    const kernels::Instructions& here = called(text(env, named(env, values[0], "instructions")));
    kernels::Shape shape;
    shape.vocabulary = number(env, values[0], "vocabSize");
    shape.positions = number(env, values[0], "maxPositions");
    shape.types = number(env, values[0], "typeVocabSize");
    shape.hidden = number(env, values[0], "hiddenSize");
    shape.heads = number(env, values[0], "heads");
    shape.inner = number(env, values[0], "intermediateSize");
    shape.layers = number(env, values[0], "layers");
    shape.bits = number(env, values[0], "bits");
    shape.columns = here.columns;
    double epsilon;
    check(env, napi_get_value_double(env, named(env, values[0], "layerNormEps"), &epsilon));
    shape.epsilon = float(epsilon);
    shape.byFirst = text(env, named(env, values[0], "pooling")) == "cls";
    if (!kernels::isPossible(shape)) throw Failure{"there are no kernels for that shape"};
    auto handle = std::unique_ptr<Handle>(
        new Handle{here, number(env, values[0], "threads"), std::make_unique<kernels::Loader>(shape), nullptr});
    napi_value result;
    const auto release = [](napi_env, void* data, void*) { delete static_cast<Handle*>(data); };
    check(env, napi_create_external(env, handle.get(), release, nullptr, &result));
    handle.release();
    return result;
  });
}

// write(handle, numbers: Float32Array): the next of the weights, see Loader
napi_value write(napi_env env, napi_callback_info info) {
  return method<2>(env, info, [&](auto& values) -> napi_value {
    kernels::Loader& loader = loaderOf(handleOf(env, values[0]));
    const View<float> numbers = typed<float>(env, values[1], napi_float32_array);
    loader.write(numbers.data, numbers.length);
    return nullptr;
  });
}

// finish(handle): all weights were written
napi_value finish(napi_env env, napi_callback_info info) {
  return method<1>(env, info, [&](auto& values) -> napi_value {
    Handle& handle = handleOf(env, values[0]);
    handle.session = std::make_unique<Session>(handle.instructions, loaderOf(handle).finish(), handle.threads);
    handle.loader.reset();
    return nullptr;
  });
}

// encode(handle, ids: Int32Array, lengths: Int32Array, pooled: Float32Array): ids of all texts, one behind the other ->
// pooled [texts, hidden]
napi_value encode(napi_env env, napi_callback_info info) {
  return method<4>(env, info, [&](auto& values) -> napi_value {
    Session* session = handleOf(env, values[0]).session.get();
    if (!session) throw Failure{"the model is not loaded"};
    const View<int32_t> ids = typed<int32_t>(env, values[1], napi_int32_array);
    const View<int32_t> lengths = typed<int32_t>(env, values[2], napi_int32_array);
    const View<float> pooled = typed<float>(env, values[3], napi_float32_array);
    const kernels::Shape& shape = session->shape();
    size_t tokens = 0;
    for (size_t i = 0; i < lengths.length; i++) {
      if (lengths.data[i] < 1 || lengths.data[i] > shape.positions) throw Failure{"a text is too long, or empty"};
      tokens += lengths.data[i];
    }
    if (tokens != ids.length || pooled.length != lengths.length * shape.hidden) throw Failure{"lengths do not fit"};
    for (size_t i = 0; i < ids.length; i++)
      if (ids.data[i] < 0 || ids.data[i] >= shape.vocabulary) throw Failure{"a token is not in the vocabulary"};
    if (lengths.length > 0) session->encode(ids.data, lengths.data, int(lengths.length), pooled.data);
    return nullptr;
  });
}

// close(handle): frees its memory and ends its threads
napi_value close(napi_env env, napi_callback_info info) {
  return method<1>(env, info, [&](auto& values) -> napi_value {
    Handle& handle = handleOf(env, values[0]);
    handle.loader.reset();
    handle.session.reset();
    return nullptr;
  });
}

}  // namespace

NAPI_MODULE_INIT() {
  const auto add = [&](const char* name, napi_callback callback) {
    napi_value function;
    if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function) == napi_ok)
      napi_set_named_property(env, exports, name, function);
  };
  add("instructions", instructions);
  add("open", open);
  add("write", write);
  add("finish", finish);
  add("encode", encode);
  add("close", close);
  return exports;
}
