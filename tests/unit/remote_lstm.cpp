// Calls the fused LSTM on tensors in a file, so that a build for another processor can be tried in an emulator.
//
// remote_lstm BITS sizes FILE             prints the lanes, the saved numbers and the statistics of the file's problem
// remote_lstm BITS forward|backward FILE  does that with the file's tensors, and writes all of them back
//
// The file holds the Problem, then each tensor of Tensors, and of Gradients: its bytes as int64, and that many bytes.
#include <cstdio>
#include <string>

#include "lstm.cpp"

namespace {

// A structure of nothing but pointers, each to memory of the file's size or null
template <class Pointers> struct Owned {
    static constexpr int count = sizeof(Pointers) / sizeof(void*);

    explicit Owned(FILE* file) : memory(count) {
        void* pointers[count];
        for (int i = 0; i < count; ++i) {
            int64_t bytes = 0;
            if (std::fread(&bytes, sizeof bytes, 1, file) != 1) std::abort();
            memory[i].resize(bytes);
            if (std::fread(memory[i].data(), 1, bytes, file) != size_t(bytes)) std::abort();
            pointers[i] = bytes ? memory[i].data() : nullptr;
        }
        std::memcpy(&tensors, pointers, sizeof tensors);
    }

    void write(FILE* file) const {
        for (const auto& bytes : memory) std::fwrite(bytes.data(), 1, bytes.size(), file);
    }

    std::vector<std::vector<char>> memory;
    Pointers tensors;
};

template <class real> int call(const std::string& what, const char* path) {
    Problem p;
    FILE* file = std::fopen(path, "rb");
    if (!file || std::fread(&p, sizeof p, 1, file) != 1) return 1;
    if (what == "sizes") {
        std::printf("%ld %ld %ld\n", long(lanes<real>), long(saved_size<real>(p)), long(statistics_size<real>(p)));
        return 0;
    }
    Owned<Tensors<real>> in(file);
    if (what == "forward") {
        std::fclose(file);
        forward<real>(p, in.tensors);
        file = std::fopen(path, "wb");
        in.write(file);
    } else {
        Owned<Gradients<real>> out(file);
        std::fclose(file);
        backward<real>(p, in.tensors, out.tensors);
        file = std::fopen(path, "wb");
        out.write(file);
    }
    return std::fclose(file);
}

}  // namespace

int main(int, char** words) {
    return std::string(words[1]) == "32" ? call<float>(words[2], words[3]) : call<double>(words[2], words[3]);
}
