"""TargetGen: what has to be built before a compiler supports a new target, and who does which part of it?"""
