// Package train trains decoder models from random weights.
//
// The way of the data:
//
//  1. Documents of text files and rows of evaluation sets become sequences of tokens, each beginning with BOS, whole
//     documents ending with EOS (data.go).
//  2. A pass over the data is a seeded shuffle of the sequences; steps take sequences from it until a batch is full
//     (order.go).
//  3. A step is the forward and backward pass of models/decoder, clipping by the norm of all gradients, and AdamW with
//     warm-up and cosine (train.go).
//  4. Every few steps the whole state goes to disk in one file that replaces the one before (state.go). A run that was
//     killed goes on from there and writes the same bytes as one that was not.
//  5. The end is a folder in the Hugging Face layout, with the log, the loss curve and the resolved training file
//     (folder.go).
//
// The weights are a function of the training file, the data and the tokenizer: not of the number of workers, the
// instruction set or the batch of sequences in hand, since every sum has a fixed order.
package train
