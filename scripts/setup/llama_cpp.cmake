# Included by CMake after project() of llama-cpp-python (CMAKE_PROJECT_llama_cpp_INCLUDE). It leaves
# out what the product does not use, and how the rest is compiled does not change its code.

# Chat templates, HTTP and option parsing of llama.cpp's own programs. llama-cpp-python forces the
# cache entry; a normal variable has precedence over it (CMP0126, CMP0077).
set(LLAMA_BUILD_COMMON OFF)

# A third of the time of a source of libllama goes into parsing the same standard headers.
function(chatsite_precompile)
    if(TARGET llama)
        target_precompile_headers(
            llama PRIVATE
            "$<$<COMPILE_LANGUAGE:CXX>:<algorithm$<ANGLE-R>>"
            "$<$<COMPILE_LANGUAGE:CXX>:<functional$<ANGLE-R>>"
            "$<$<COMPILE_LANGUAGE:CXX>:<map$<ANGLE-R>>"
            "$<$<COMPILE_LANGUAGE:CXX>:<memory$<ANGLE-R>>"
            "$<$<COMPILE_LANGUAGE:CXX>:<regex$<ANGLE-R>>"
            "$<$<COMPILE_LANGUAGE:CXX>:<set$<ANGLE-R>>"
            "$<$<COMPILE_LANGUAGE:CXX>:<sstream$<ANGLE-R>>"
            "$<$<COMPILE_LANGUAGE:CXX>:<string$<ANGLE-R>>"
            "$<$<COMPILE_LANGUAGE:CXX>:<unordered_map$<ANGLE-R>>"
            "$<$<COMPILE_LANGUAGE:CXX>:<vector$<ANGLE-R>>"
        )
    endif()
endfunction()
cmake_language(DEFER CALL chatsite_precompile)
