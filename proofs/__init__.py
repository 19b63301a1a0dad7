"""The proof of the kernel: `cognu verify` runs it, `docs/assurance.md` says what it shows and what it rests on."""
