// Package architecture holds the tests that keep the house in order: the import law, one importer for each client
// library, and a doc comment on every package. It contains no code of the product.
package architecture
