{
  "targets": [
    {
      "target_name": "kernels",
      "sources": ["addon.cc", "avx2.cc", "avx512vnni.cc", "forward.cc", "model.cc", "session.cc", "team.cc"],
      "cflags_cc!": ["-fno-exceptions"],
      "cflags_cc": ["-std=c++17", "-O3", "-ffp-contract=off", "-fno-tree-pre", "-fvisibility=hidden"]
    }
  ]
}
