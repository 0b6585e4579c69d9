// Package checkpoint reads the weights and the architecture of a language model from disk.
//
// The way of the data:
//
//  1. ReadConfig turns any spelling of a config.json (or the header of a llama2.c file) into one Config.
//     A setting that the decoder does not compute is an error that names the key.
//  2. OpenSafetensors maps a file and checks its header completely: every byte of the data belongs to
//     exactly one tensor. Nothing of the data is read.
//  3. Open joins both: it finds the files of the checkpoint (model.safetensors, or the shards that
//     model.safetensors.index.json names; never by listing the folder), and compares the stored tensors
//     with those the architecture needs. A missing, surplus or misshapen tensor is an error.
//  4. Checkpoint.Tensor returns a view of the mapped bytes; Tensor.Float32 and Tensor.Rows widen it and
//     refuse NaN and infinities.
//
// Tensors carry the names and the layout of the Hugging Face Llama implementation, also when they come
// from a llama2.c file (query and key rows are in the rotate-half order of the rotary embedding) or from a
// family that stores several weights as one matrix (each is a view of its rows).
//
// A model family is one row of the table in architectures.go and one file: its class name, what its config
// leaves out and what that means, the keys that it does not compute, and its tensors. mistral.go is the
// shortest example, phi3.go one with tensors of its own.
//
// All files are data from outside: no number in them decides an allocation, and every fault ends in one
// line that names the file and the tensor or key.
package checkpoint
