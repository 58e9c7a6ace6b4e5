"""What a comparison leaves for people to read: a sentence, tables, pictures, one page."""
