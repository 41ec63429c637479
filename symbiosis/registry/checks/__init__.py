"""What a candidate is judged by: the same held-out queries or users as the champion, with paired intervals."""
