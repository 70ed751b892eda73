"""All of TensorRT and CUDA: library, driver, options, key, store, builder, session, engine."""
