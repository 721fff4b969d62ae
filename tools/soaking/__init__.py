"""Who works in the lab of a soak, what breaks there, and how is it brought to rest?"""
