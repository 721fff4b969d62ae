"""How fast is each part, measured beside the plainest thing that does the same?"""
