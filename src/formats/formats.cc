namespace dunlin {}
