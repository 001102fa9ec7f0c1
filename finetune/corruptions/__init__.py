"""The 15 + 4 corruptions of CIFAR-10-C at severities 1 to 5, for images of any size.

`apply.corrupt(images, name, severity, seed)` does any of them; names and parameters are in
`parameters`. Frost is made of synthetic noise unless photographs of ice are given.
"""
