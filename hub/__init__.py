"""The router service: checks what agencies submit, keeps the ledger, hands every document to its recipients."""
