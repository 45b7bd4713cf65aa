def backwards(word):
    return word[::-1]
