// Package hub finds models and datasets in the cache that the Hugging Face tools share, and downloads them into it.
//
// One repository has one folder in the cache:
//
//	models--org--name/              (datasets--org--name/ for a dataset)
//	  blobs/<etag>                  contents; the etag is the sha256 of a large file (LFS) or the git blob id of a small one
//	  blobs/<etag>.incomplete       the first bytes of a content whose download is not finished
//	  snapshots/<commit>/<file>     relative links to the contents, or copies where the system has no links
//	  refs/<branch or tag>          the commit, 40 hexadecimal digits without a newline
//	.locks/models--org--name/<etag>.lock
//
// Resolve and Cache.Find read this layout and never the network. Fetch writes it: a content gets its final name
// only after its digest was found right, the links follow when all contents are there, and the ref comes last.
// So an interrupted Fetch leaves nothing that looks complete, and the next one goes on where it stopped.
//
// What a server answers is data from outside: file names are checked before they become paths, every text is
// read up to a fixed size, contents are compared with their digests, and the token goes to the endpoint alone.
package hub
